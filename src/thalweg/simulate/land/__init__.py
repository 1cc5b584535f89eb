"""Land cover, parcels, management and growth of a simulated landscape."""
