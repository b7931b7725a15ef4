"""What must hold on a host whatever strikes it, told as violations; none is what a test wants.

The real verbs run over the port in memory.
"""
