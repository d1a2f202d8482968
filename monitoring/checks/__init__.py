"""Is the data of a window sound?"""
