BEGIN TRANSACTION;
CREATE TABLE looks (
    id TEXT PRIMARY KEY, vmid INTEGER NOT NULL, node TEXT NOT NULL, name TEXT NOT NULL, running INTEGER NOT NULL,
    seen_at REAL NOT NULL, diskwrite INTEGER, still_since_at REAL, asked_at REAL, state TEXT NOT NULL,
    why TEXT NOT NULL, frozen_since_at REAL, silent INTEGER NOT NULL,
    run_limit_seconds REAL, first_seen_at REAL) WITHOUT ROWID;
INSERT INTO "looks" VALUES('qemu/100',100,'pve1','db',1,1700003700.0,7,NULL,1700003700.0,'thawed','',NULL,0,93600.0,1700003700.0);
INSERT INTO "looks" VALUES('qemu/102',102,'pve1','mail',1,1700003700.0,9,1700003640.0,1700003700.0,'frozen','',1700003700.0,0,NULL,1700003700.0);
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "notes" VALUES('looked','1700003700.0',1700003700.0);
INSERT INTO "notes" VALUES('plan:UPID:pve1:00001267:0001E240:6553F100:vzdump::root@pam::101','{"policy": "require"}',1700003600.0);
CREATE TABLE series (
        name TEXT NOT NULL, id TEXT NOT NULL, vmid INTEGER NOT NULL, node TEXT NOT NULL, source TEXT NOT NULL,
        labels TEXT NOT NULL, value REAL NOT NULL, seen_at REAL NOT NULL,
        PRIMARY KEY (name, id, node, source, labels)) WITHOUT ROWID;
INSERT INTO "series" VALUES('_last_intent','qemu/100',100,'pve1','snapshot','',1700000000.0,1700000003.0);
INSERT INTO "series" VALUES('_last_intent','qemu/101',101,'pve1','vzdump','',1700003600.0,1700003600.0);
INSERT INTO "series" VALUES('pve_fsfreeze_agent_up','qemu/100',100,'pve1','','',1.0,1700000000.0);
INSERT INTO "series" VALUES('pve_fsfreeze_attempts_total','qemu/100',100,'pve1','snapshot','',1.0,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_attempts_total','qemu/101',101,'pve1','vzdump','',1.0,1700003600.0);
INSERT INTO "series" VALUES('pve_fsfreeze_failures_total','qemu/101',101,'pve1','vzdump','{"stage": "freeze", "reason": "reply-lost"}',1.0,1700003600.0);
INSERT INTO "series" VALUES('pve_fsfreeze_filesystems_frozen','qemu/100',100,'pve1','snapshot','',2.0,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_guard_thaws_total','qemu/101',101,'pve1','vzdump','{"cause": "deadline"}',1.0,1700003600.0);
INSERT INTO "series" VALUES('pve_fsfreeze_hook_errors_total','',0,'pve1','','{"phase": "log-end"}',1.0,0.0);
INSERT INTO "series" VALUES('pve_fsfreeze_last_consistent_timestamp_seconds','qemu/100',100,'pve1','snapshot','',1700000003.0,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_last_failure','qemu/101',101,'pve1','vzdump','{"stage": "freeze", "reason": "reply-lost"}',1.0,1700003600.0);
INSERT INTO "series" VALUES('pve_fsfreeze_last_freeze_seconds','qemu/100',100,'pve1','snapshot','',0.2,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_last_run_timestamp_seconds','qemu/100',100,'pve1','snapshot','',1700000003.0,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_last_success_timestamp_seconds','qemu/100',100,'pve1','snapshot','',1700000003.0,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_last_thaw_seconds','qemu/100',100,'pve1','snapshot','',0.1,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_last_verdict','qemu/100',100,'pve1','snapshot','{"verdict": "filesystem-consistent"}',1.0,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_last_window_seconds','qemu/100',100,'pve1','snapshot','',0.5,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_late_freezes_total','qemu/101',101,'pve1','vzdump','',1.0,1700003600.0);
INSERT INTO "series" VALUES('pve_fsfreeze_max_window_seconds','qemu/100',100,'pve1','snapshot','',0.5,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_thaw_retries_total','qemu/101',101,'pve1','vzdump','',2.0,1700003600.0);
INSERT INTO "series" VALUES('pve_fsfreeze_window_limit_seconds','qemu/100',100,'pve1','snapshot','',30.0,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_window_limit_seconds','qemu/101',101,'pve1','vzdump','',30.0,1700003600.0);
INSERT INTO "series" VALUES('pve_fsfreeze_window_seconds_bucket','qemu/100',100,'pve1','snapshot','{"le": "0.5"}',1.0,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_window_seconds_count','qemu/100',100,'pve1','snapshot','',1.0,1700000003.0);
INSERT INTO "series" VALUES('pve_fsfreeze_window_seconds_sum','qemu/100',100,'pve1','snapshot','',0.5,1700000003.0);
CREATE TABLE windows (id TEXT PRIMARY KEY, vmid INTEGER NOT NULL, node TEXT NOT NULL, kind TEXT NOT NULL, guest_name TEXT NOT NULL, source TEXT NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL, intent_at REAL NOT NULL, deadline_at REAL NOT NULL, owner_pid INTEGER NOT NULL, owner_pid_start INTEGER NOT NULL, boot_id TEXT NOT NULL, guard_pid INTEGER, guard_pid_start INTEGER, snapshot_name TEXT, upid TEXT, freeze_outcome TEXT, freeze_detail TEXT, filesystems_frozen INTEGER, filesystems_thawed INTEGER, frozen_at REAL, thawed_at REAL, freezing_seconds REAL, held_seconds REAL, thawing_seconds REAL, window_seconds REAL, thaw_attempts INTEGER, thaw_route TEXT, thaw_detail TEXT, guard_cause TEXT, late_freezes INTEGER, quiet_until_at REAL, failure_stage TEXT, failure_reason TEXT, verdict TEXT, reason TEXT, closed_at REAL, counted TEXT);
INSERT INTO "windows" VALUES('00000000000000000000000000000001',100,'pve1','qemu','db','snapshot','snapshot','thawed',1700000000.0,1700000030.0,4711,123456,'5f2d7c1e-0000-4000-8000-1234567890ab',4712,123460,'safe-20231114-221320',NULL,'acknowledged',NULL,2,2,1700000000.2,1700000000.5,0.2,0.2,0.1,0.5,1,'agent socket',NULL,NULL,0,NULL,NULL,NULL,'filesystem-consistent','2 filesystems frozen, proven after the point in time, and thawed',1700000003.0,'{"ended":1700000003.0,"success":0.0,"consistent":0.0,"attempt":1,"window":1}');
INSERT INTO "windows" VALUES('00000000000000000000000000000002',101,'pve1','qemu','wéb','vzdump','hook','unknown',1700003600.0,1700003630.0,4711,123456,'5f2d7c1e-0000-4000-8000-1234567890ab',4712,123460,NULL,'UPID:pve1:00001267:0001E240:6553F100:vzdump::root@pam:','unknown','the reply was lost',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,3,NULL,NULL,'deadline',1,1700007200.0,'freeze','reply-lost',NULL,NULL,NULL,'{"attempt":1,"failure":1,"guard":1,"retries":2,"late":1}');
INSERT INTO "windows" VALUES('00000000000000000000000000000003',102,'pve1','qemu','mail','foreign','foreign','frozen',1700003700.0,1700004000.0,0,0,'',NULL,NULL,NULL,NULL,'acknowledged',NULL,NULL,NULL,1700003700.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX windows_open ON windows (vmid) WHERE (closed_at IS NULL OR (closed_at < 0 OR closed_at > 100000000000.0) AND state <> 'thawed');
CREATE INDEX windows_by_time ON windows (intent_at);
CREATE INDEX windows_by_guest ON windows (vmid, intent_at);
PRAGMA user_version = 1;
COMMIT;
