"""Breaks the manifests on purpose, each in one way, and expects the check that is there for it to say so."""


def check(report, repository):
    pass
