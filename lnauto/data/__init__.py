"""What a data set is: read, check, make, preprocess."""
