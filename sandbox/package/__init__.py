"""Packages for platforms: a guard folder of launcher, modules and bundle, as layer, repacked runtime or image."""
