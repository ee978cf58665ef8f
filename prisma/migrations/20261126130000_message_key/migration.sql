-- A message's key begins with its id, so that nothing but (org_id, task_id, position) serves who asks for the messages of a
-- task. On a table that was empty when a connection planned, the planner could take the key for that, and read all of an
-- organization's messages with every claim (docs/decisions/004-plans-that-cannot-age.md).
ALTER TABLE message DROP CONSTRAINT message_pkey, ADD CONSTRAINT message_pkey PRIMARY KEY (id, org_id);
