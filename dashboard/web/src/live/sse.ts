/** Reads server-sent events from the text of a response (HTML standard, "Server-sent events"). */

export interface ServerEvent {
  event: string;
  data: string;
}

/**
 * Takes text as it arrives, in pieces cut anywhere, and gives the events that are complete.
 * Comments give nothing. Ids and retry times are not used here.
 */
export class EventParser {
  private rest = "";
  private event = "";
  private data: string[] = [];

  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    this.rest += text;
    for (;;) {
      const end = /\r\n|\n|\r/.exec(this.rest);
      // A carriage return at the very end may be half of a pair.
      if (!end || (end[0] === "\r" && end.index === this.rest.length - 1)) return events;
      const line = this.rest.slice(0, end.index);
      this.rest = this.rest.slice(end.index + end[0].length);
      const event = this.line(line);
      if (event) events.push(event);
    }
  }

  private line(line: string): ServerEvent | null {
    if (line === "") {
      const event = { event: this.event || "message", data: this.data.join("\n") };
      const complete = this.data.length > 0;
      this.event = "";
      this.data = [];
      return complete ? event : null;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.event = value;
    else if (field === "data") this.data.push(value);
    return null;
  }
}
