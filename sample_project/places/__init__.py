"""Countries, cities and airports of the world: the one app of the sample site."""
