"""Chains audit entries and numbers stream events, after the commit, one process at a time (WorkLease "sealer")."""
