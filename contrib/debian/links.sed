# Relative links of README.md and docs/ as they lead from /usr/share/doc/vzdump-hooks, where both lie in one folder.
s#\]\(docs/#](#g
s#\]\(\.\./README\.md#](README.md#g
s#\]\((\.\./)?CHANGELOG\.md#](CHANGELOG.md.gz#g
s#\]\((\.\./)?LICENSE#](copyright#g
s#\]\((\.\./)?contrib/systemd/sample#](../../vzdump-hooks/systemd#g
s#\]\((\.\./)?contrib/(prometheus|grafana|guest|hooks|config\.toml|vzdump\.conf\.example)#](../../vzdump-hooks/\2#g
