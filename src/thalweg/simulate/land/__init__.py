"""Land cover, parcels, management, growth and production of a simulated landscape."""
