-- So many projects, users without passwords, and assignments in a real Keystone's tables, where its API
-- would take a quarter of an hour. Run again, it adds what is missing. @people is set by bench/peer.sh.
INSERT IGNORE INTO project (id, name, extra, description, enabled, domain_id, parent_id, is_domain)
SELECT MD5(CONCAT('project', seq)), CONCAT('people-', seq), '{}', '', 1, 'default', 'default', 0
FROM seq_1_to_1000000 WHERE seq <= @people;
INSERT IGNORE INTO user (id, extra, enabled, created_at, domain_id)
SELECT MD5(CONCAT('user', seq)), '{}', 1, UTC_TIMESTAMP(), 'default'
FROM seq_1_to_1000000 WHERE seq <= @people;
INSERT IGNORE INTO local_user (domain_id, user_id, name)
SELECT 'default', MD5(CONCAT('user', seq)), CONCAT('people-', seq)
FROM seq_1_to_1000000 WHERE seq <= @people;
INSERT IGNORE INTO assignment (type, actor_id, target_id, role_id, inherited)
SELECT 'UserProject', MD5(CONCAT('user', seq)), MD5(CONCAT('project', seq)), role.id, 0
FROM seq_1_to_1000000 JOIN role ON role.name = 'reader' AND role.domain_id = '<<null>>'
WHERE seq <= @people;
