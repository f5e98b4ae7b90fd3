"""What the product does: one callable object per thing that somebody can do.

A use case is made once, with its ports, and called with keyword arguments by any number of callers at once.
"""
