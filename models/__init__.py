"""What is trained and what serves. The core imports torch, numpy and safetensors, nothing else."""
