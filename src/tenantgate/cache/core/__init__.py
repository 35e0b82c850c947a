"""The semantic cache's decisions: pure functions over frozen data.

`partition` says who and where, `plan` whether to look, `judge` whether a neighbour may answer,
`calibration` where the bound lies, `admit` what may be kept, `entry` how it is written, and `ports` what the edge
has to provide.
"""
