"""What a process tells about itself: health for orchestrators, metrics for Prometheus, a warning when its loop is held."""
