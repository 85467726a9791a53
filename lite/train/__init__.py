"""Training, a thin companion on Lightning (extra `train`): recipes in `lite/recipes`, weights ready for `export`."""
