"""`parley bench`: how fast this is on your machine, as ratios to something measured in the same run."""
