"""`python -m streamkit.history`: what it prints and how it ends."""

from streamkit.history.__main__ import main

SENT = (
    '{"process":"w","type":"invoke","time":10,"steps":[["send","p","a"]]}\n'
    '{"process":"w","type":"ok","time":20,"steps":[["send","p","a",0]]}\n'
)
READ = (
    '{"process":"r","type":"invoke","time":30}\n'
    '{"process":"r","type":"ok","time":40,"steps":[["scan","p",0,1,[%s]]]}\n'
)


def test_several_files_are_one_history(tmp_path, capsys):
    writer, reader = tmp_path / "w.jsonl", tmp_path / "r.jsonl"
    writer.write_text(SENT)
    reader.write_text(READ % '[0,"a"]')
    assert main([str(writer), str(reader)]) == 0
    assert capsys.readouterr().out == "2 operations, 1 record sent\nno anomaly\n"
    reader.write_text(READ % "")
    assert main([str(writer), str(reader)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "2 operations, 1 record sent",
        "1 × lost-write",
        "lost-write: 'a' was at p@0; read from start to end, it is not there",
        "    w:1 ok [0.000000 to 0.000000 s] send 'a' to p@0",
        "    r:1 ok [0.000000 to 0.000000 s] scan p from 0 to 1: nothing",
    ]


def test_what_is_no_history_is_said(tmp_path, capsys):
    (tmp_path / "x").write_text("x\n")
    assert main([str(tmp_path / "x")]) == 2
    assert main([str(tmp_path / "missing")]) == 2
    assert main([]) == 2
    assert "x:1: not an event" in capsys.readouterr().err
