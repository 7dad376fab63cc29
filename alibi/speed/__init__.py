"""Speed and memory, as ratios within one run: training steps, evaluation, attention alone, other libraries."""
