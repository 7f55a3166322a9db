"""What is learned from option markets, one file each."""
