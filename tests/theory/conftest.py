from hypothesis import settings

# The same examples on every machine, and none fails for a slow one.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")
