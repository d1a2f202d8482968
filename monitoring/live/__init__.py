"""The live watch: does the champion keep what its evidence promised?"""
