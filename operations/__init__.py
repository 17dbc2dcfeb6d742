"""What an operator reads and does: status, audit, dead letters, replay, one visitor, erasure, the doctor.

These modules read the outbox and run its scripts. They hold facts; the words and colours for a person are made in
``console/commands``. Workers use two of them: they go on with replays and report data that Redis has lost.
"""
