"""Other projects' loops as contenders, a file each: ``peer/NAME`` is what ``make`` of ``NAME.py`` returns.

README.md says how to write one. The files are found by their names and imported in cells only; a row of
``contenders.toml`` says what a peer needs beyond its file.
"""
