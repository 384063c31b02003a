"""What the stages that run a model share: manifests, batches, finished batches, shards, GPUs."""
