"""What a surface may choose beside the defaults: other optimisers, replay, distillation. None that comes with the
program does: on the logs of ``benchmarks`` each ranks worse than the defaults, or no better for its cost."""
