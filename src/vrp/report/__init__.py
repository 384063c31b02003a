"""The report: the study's answer in four sentences, the papers' numbers beside ours, the page.

Everything here is computed from the study's tables; nothing here runs a model.
"""
