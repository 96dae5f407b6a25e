"""The papers' tables: what they print, what reproduces it, and the commands that fill them.

published.json  every table and figure that holds structures or numbers, as printed
published       reads it
layer_counts    the layers of networks as the tables count them, built once
measure         their counts and structures, in the tables' units and notation
recipes         from a row to the network behind it and how it is counted
differences     the printed numbers that nothing reproduces, and why
compare         printed beside computed, and beside the user's own runs
runs            reads run folders
formats         the comparison as text, CSV, Markdown, JSON
reproduce       the training commands that fill a table, and their execution
"""
