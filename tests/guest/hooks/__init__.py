"""The guest's hooks (contrib/guest/hooks): the scripts with pretended servers, and, slow, real databases under load."""
