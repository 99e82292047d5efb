"""A whole pipeline against pyannote's own: every stage on the same recordings, and who spoke when.

Each stage is judged twice, as each layer of a network is. "Forced" feeds it with pyannote's own
input of that stage, "free" lets the port run as people run it. In free mode a decision within the
float32 noise may go either way; what comes after it then says nothing, is left out, and counted.
"""
