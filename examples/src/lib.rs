//! Programs that show the load balancer at work.
