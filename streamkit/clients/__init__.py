"""Producer, Consumer and Admin: a log in the hands of any Python program."""
