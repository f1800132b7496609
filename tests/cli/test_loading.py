import os
import sys

import pytest

from streamkit.cli.loading import load_app
from streamkit.errors import UsageError


@pytest.fixture(autouse=True)
def imports_as_before(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("probe"):
            del sys.modules[name]


def write(folder, text, name="probe_app.py"):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_the_only_app_of_a_file_is_found(tmp_path):
    path = write(tmp_path, "from streamkit import App\nshop = also = App('shop')\n")
    assert load_app(path).name == "shop"


def test_an_app_is_found_by_its_name(tmp_path):
    path = write(tmp_path, "from streamkit import App\na = App('one')\nb = App('two')\n")
    assert load_app(f"{path}:b").name == "two"


def test_a_file_may_import_its_neighbours(tmp_path):
    write(tmp_path, "NAME = 'neighbour'\n", "probe_neighbour.py")
    text = "from streamkit import App\nimport probe_neighbour\na = App(probe_neighbour.NAME)\n"
    assert load_app(write(tmp_path, text)).name == "neighbour"


def test_a_module_is_found_in_the_current_directory(tmp_path, monkeypatch):
    write(tmp_path, "from streamkit import App\na = App('shop')\n", "probe_module.py")
    monkeypatch.chdir(tmp_path)
    assert load_app("probe_module:a").name == "shop"


def test_two_files_of_the_same_name_are_two_apps(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, f"from streamkit import App\na = App({folder!r})\n")
    names = [load_app(str(tmp_path / folder / "probe_app.py")).name for folder in ("one", "two")]
    assert names == ["one", "two"]


def test_what_is_saved_again_within_a_second_is_what_is_loaded(tmp_path):
    for name in ("one", "two"):
        path = write(tmp_path, f"from streamkit import App\na = App({name!r})\n")
        os.utime(path, (10**9, 10**9))
        assert load_app(path).name == name


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("x = 1\n", "", r"probe_app.py: no App in it"),
        (
            "from streamkit import App\na = App('x')\nb = App('y')\n",
            "",
            r"several apps.*probe_app.py:a \(there are: a, b\)",
        ),
        ("from streamkit import App\nshop = App('x')\n", ":shpo", r"'shpo' does not exist.*'shop'"),
        ("from streamkit import App\na = App('x')\nb = 1\n", ":b", r"'b' is not an App"),
        ("a = 1\nif:\n", "", r"probe_app.py:2: invalid syntax\n    if:"),
        ("a = 1\n\nb = 1 / 0\n", "", r"probe_app.py:3: ZeroDivisionError while importing"),
        ("import no_such_thing\n", "", r"probe_app.py:1: ModuleNotFoundError.*no_such_thing"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path, text, name, message):
    with pytest.raises(UsageError, match=message):
        load_app(write(tmp_path, text) + name)


def test_a_missing_file_names_the_nearest(tmp_path):
    write(tmp_path, "")
    with pytest.raises(UsageError, match=r"no such file; did you mean 'probe_app.py'"):
        load_app(str(tmp_path / "probe_ap.py"))


def test_a_missing_module_says_what_can_be_named():
    with pytest.raises(UsageError, match=r"no such module here; name a file"):
        load_app("probe_no_such_module")


def test_a_folder_is_told_from_a_file_and_what_is_in_it_is_listed(tmp_path):
    write(tmp_path, "")
    with pytest.raises(UsageError, match=r"a folder; name the file .* it has probe_app\.py"):
        load_app(str(tmp_path))
