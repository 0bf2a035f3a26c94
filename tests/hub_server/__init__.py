"""A Hugging Face Hub on loopback for tests: `python -m tests.hub_server PORT DIR`. Standard library and PyYAML.

On disk: `store` (which repos exist), `repo` (one repo: checkout, history, content), `history` (commits and trees),
`blobs` (content by hash), `push` (a commit request applied to a tree), `attributes` (what LFS keeps), `uploads` (large
files on their way). Over HTTP: `server` (routing, connection), `messages` (requests, refusals, access), `body`,
`read_routes`, `write_routes`, `lfs_routes`, `faults` (what shall go wrong). `users` owns tokens, `card_schema` and
`card_terms` the check of a card's metadata. `fixture` owns the pytest fixture `hub`, `repos` what is put into DIR.
"""
