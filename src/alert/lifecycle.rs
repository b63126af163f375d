//! The life of one alert: pending, firing, resolved, cooling down; episodes and relapses.
