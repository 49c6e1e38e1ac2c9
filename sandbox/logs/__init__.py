"""Logs: our lines out of whatever carries them, and how much was read. Decides nothing.

    reading = LogReader()                        # or LogReader("cloudwatch"), one of FORMATS
    for line in reading.lines(file):           # a binary file, gzip or not; yields violations.reader.Line, as they come
        ...
    reading.counts.lines, reading.counts.ours, reading.counts.not_understood

`lines` leaves status lines out, as violations.reader does; `lines(file, starts=True)` yields them as well (`record` is
None, `fields["event"]` is "sandbox"). A file that grows is read by `feed(bytes)` and `end()` (sandbox/logs/reading.py).
`counts.verdict()` says in words what was read, and is what to show instead of "no violations" where nothing was ours.
Nothing raises for what a log holds; reading the file raises OSError.
"""
