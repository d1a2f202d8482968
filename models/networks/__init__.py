"""What a ranker is: its shape, its network and the linear part of each."""
