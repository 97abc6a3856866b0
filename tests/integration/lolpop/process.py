"""The transformation that lolpop's ``LocalDataTransformer`` runs on a table it has read."""


def transform(data, **kwargs):
    return data.dropna()
