// Three tables and one upsert for each kind of record: what a team writes that follows the documentation.

import pg from "pg";

export const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });

export async function createTables() {
  await pool.query(`
    CREATE TABLE IF NOT EXISTS users (
      id text PRIMARY KEY, directory_id text NOT NULL, organization_id text, idp_id text, email text,
      first_name text, last_name text, state text NOT NULL, role text,
      custom_attributes jsonb, raw_attributes jsonb, updated_at timestamptz NOT NULL);
    CREATE TABLE IF NOT EXISTS groups (
      id text PRIMARY KEY, directory_id text NOT NULL, organization_id text, idp_id text, name text NOT NULL,
      raw_attributes jsonb, updated_at timestamptz NOT NULL);
    CREATE TABLE IF NOT EXISTS memberships (
      group_id text REFERENCES groups ON DELETE CASCADE, user_id text REFERENCES users ON DELETE CASCADE,
      PRIMARY KEY (group_id, user_id));`);
}

export function upsertUser(user, client = pool) {
  return client.query({
    name: "upsert-user",
    text: `INSERT INTO users VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
      ON CONFLICT (id) DO UPDATE SET organization_id = $3, idp_id = $4, email = $5, first_name = $6, last_name = $7,
        state = $8, role = $9, custom_attributes = $10, raw_attributes = $11, updated_at = $12
      WHERE users.updated_at <= $12`,
    values: [
      user.id, user.directoryId, user.organizationId, user.idpId, user.email, user.firstName, user.lastName, user.state,
      user.role?.slug, user.customAttributes, user.rawAttributes, user.updatedAt,
    ],
  });
}

export function upsertGroup(group, client = pool) {
  return client.query({
    name: "upsert-group",
    text: `INSERT INTO groups VALUES ($1, $2, $3, $4, $5, $6, $7)
      ON CONFLICT (id) DO UPDATE SET organization_id = $3, idp_id = $4, name = $5, raw_attributes = $6, updated_at = $7
      WHERE groups.updated_at <= $7`,
    values: [
      group.id, group.directoryId, group.organizationId, group.idpId, group.name, group.rawAttributes, group.updatedAt,
    ],
  });
}

export function addMember(groupId, userId, client = pool) {
  return client.query({
    name: "add-member",
    text: "INSERT INTO memberships VALUES ($1, $2) ON CONFLICT DO NOTHING",
    values: [groupId, userId],
  });
}

// The event shows both records, either of which may have been overtaken by it.
async function addMemberWithRecords(group, user) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    await upsertUser(user, client);
    await upsertGroup(group, client);
    await addMember(group.id, user.id, client);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

export async function handle({ event, data }) {
  switch (event) {
    case "dsync.user.created":
    case "dsync.user.updated":
      return upsertUser(data);
    case "dsync.user.deleted":
      return pool.query("DELETE FROM users WHERE id = $1", [data.id]);
    case "dsync.group.created":
    case "dsync.group.updated":
      return upsertGroup(data);
    case "dsync.group.deleted":
      return pool.query("DELETE FROM groups WHERE id = $1", [data.id]);
    case "dsync.group.user_added":
      return addMemberWithRecords(data.group, data.user);
    case "dsync.group.user_removed":
      return pool.query("DELETE FROM memberships WHERE group_id = $1 AND user_id = $2", [data.group.id, data.user.id]);
  }
}
