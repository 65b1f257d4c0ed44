/**
 * The arbiter's memory: one row of state and the newest rows of history, in the Durable Object's
 * own SQLite. A write is on disk before any answer leaves, which the runtime sees to.
 *
 * @import { HistoryEntry, State } from "./state.js"
 * @import { SteeringState } from "./steering.js"
 */

import { emptyState } from "./state.js";
import { emptySteering } from "./steering.js";

export const KEPT_ENTRIES = 100;

export class Storage {
  /** @param {SqlStorage} sql */
  constructor(sql) {
    this.sql = sql;
    /** Rows since the object was loaded; the free plan counts them. */
    this.rowsWritten = 0;
    this.rowsRead = 0;
    this.sql.exec(
      "CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    );
    this.sql.exec(
      "CREATE TABLE IF NOT EXISTS history (number INTEGER PRIMARY KEY, entry TEXT NOT NULL)",
    );
  }

  /** @returns {State} */
  state() {
    return { ...emptyState(), ...this.#read("state") };
  }

  /** @returns {SteeringState} */
  steering() {
    return { ...emptySteering(), ...this.#read("steering") };
  }

  /** @param {State} state */
  writeState(state) {
    this.#write("state", state);
  }

  /** @param {SteeringState} steering */
  writeSteering(steering) {
    this.#write("steering", steering);
  }

  /** @param {HistoryEntry} entry */
  append(entry) {
    this.#run("INSERT INTO history (entry) VALUES (?)", JSON.stringify(entry));
    this.#run(
      "DELETE FROM history WHERE number <= (SELECT max(number) FROM history) - ?",
      KEPT_ENTRIES,
    );
  }

  /**
   * @param {number} most
   * @returns {HistoryEntry[]} Newest first.
   */
  history(most) {
    const rows = this.#run("SELECT entry FROM history ORDER BY number DESC LIMIT ?", most);
    return rows.map((row) => JSON.parse(String(row["entry"])));
  }

  /** @param {string} name */
  #read(name) {
    const rows = this.#run("SELECT value FROM kept WHERE name = ?", name);
    return rows[0] ? JSON.parse(String(rows[0]["value"])) : {};
  }

  /**
   * @param {string} name
   * @param {object} value
   */
  #write(name, value) {
    this.#run(
      "INSERT INTO kept VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
      name,
      JSON.stringify(value),
    );
  }

  /**
   * @param {string} statement
   * @param {...SqlStorageValue} values
   */
  #run(statement, ...values) {
    const cursor = this.sql.exec(statement, ...values);
    const rows = cursor.toArray();
    this.rowsWritten += cursor.rowsWritten;
    this.rowsRead += cursor.rowsRead;
    return rows;
  }
}
