"""Many tasks: one after the other, by several processes, or on a cluster; results as they come."""
