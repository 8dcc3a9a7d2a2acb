"""What a person may do: the input of each action, with its bounds, for every face."""
