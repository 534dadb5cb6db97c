//! A layer-4 director: accepts, schedules, connects, relays.
