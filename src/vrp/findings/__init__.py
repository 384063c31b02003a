"""What a study's estimates amount to: the signal to trust, guards, the papers' claims.

Figures and the report read it; it draws and prints nothing.
"""
