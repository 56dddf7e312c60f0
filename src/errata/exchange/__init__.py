"""Labels and cards in the formats of other tools: tables, Label Studio, Argilla, FiftyOne.

Functions from plain values to plain values; none of those tools has to be installed.
"""
