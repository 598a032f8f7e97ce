"""Facts about values and ops that passes ask for. Analyses never change the IR; each call analyses
afresh.
"""
