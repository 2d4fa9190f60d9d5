//! The tables of images.

use database::{Migration, MigrationSet};

/// This crate's migrations.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    service: "storage",
    migrations: &[
        Migration {
            number: 1,
            name: "images",
            sql: "
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT,
    status TEXT NOT NULL,
    visibility TEXT NOT NULL,
    disk_format TEXT,
    container_format TEXT,
    size BIGINT,
    virtual_size BIGINT,
    checksum TEXT,
    sha512 TEXT,
    sha256 TEXT,
    min_disk BIGINT NOT NULL,
    min_ram BIGINT NOT NULL,
    protected BIGINT NOT NULL,
    hidden BIGINT NOT NULL,
    properties TEXT NOT NULL,
    tags TEXT NOT NULL,
    upload_id TEXT,
    upload_seen BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    generation BIGINT NOT NULL
);
CREATE INDEX images_by_owner ON images (owner, created_at, id);
CREATE INDEX images_by_visibility ON images (visibility, created_at, id);
CREATE INDEX images_by_status ON images (status);
CREATE TABLE image_members (
    image_id TEXT NOT NULL,
    member TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (image_id, member)
);
CREATE INDEX image_members_by_member ON image_members (member, image_id)",
        },
        Migration {
            number: 2,
            name: "a file of its own for each upload",
            sql: "
ALTER TABLE images ADD COLUMN file TEXT;
-- Files that no row stands for any more; each is removed, then forgotten.
CREATE TABLE image_leftovers (file TEXT PRIMARY KEY)",
        },
        Migration {
            number: 3,
            name: "builds hold their image's file",
            sql: "
CREATE TABLE image_holds (
    holder TEXT PRIMARY KEY,
    image_id TEXT NOT NULL,
    file TEXT NOT NULL
);
CREATE INDEX image_holds_by_image ON image_holds (image_id);
CREATE INDEX image_holds_by_file ON image_holds (file)",
        },
    ],
};
