// Jobs: registrations that wait, run or ended, and how to stop them.

import { useState } from "preact/hooks";
import { adapterLink, remember } from "../lib/address.ts";
import { request, type Schema } from "../lib/api.ts";
import { may, owns } from "../lib/caller.ts";
import { confirm } from "../lib/dialog.tsx";
import { Field } from "../lib/form.tsx";
import { useAnswer, useInterval } from "../lib/hooks.ts";
import { showResult } from "../lib/notices.tsx";
import type { PageProps } from "../lib/page.ts";
import { Act, Code, Row, State, Table } from "../lib/parts.tsx";
import { Time } from "../lib/time.tsx";
import { bytes, count } from "../lib/format.ts";
import { ManagePage } from "./page.tsx";

type Job = Schema["JobRead"];
type JobState = Schema["JobState"];

const POLL_MS = 2000;
const PAGE = 100;
const STATES: readonly JobState[] = ["queued", "running", "succeeded", "failed", "cancelled"];
const ENDED = new Set<string>(["succeeded", "failed", "cancelled"]);
const COLUMNS = ["Job", "Adapter", "State", "Progress", "Result", "Requested", "By", "Actions"];

export function JobsPage({ query }: PageProps) {
  const [state, setState] = useState(query.get("state") ?? "");
  const [adapter, setAdapter] = useState(query.get("adapter") ?? "");
  const filters = { state: (state || undefined) as JobState | undefined, adapter: adapter || undefined };
  const load = (signal: AbortSignal) => request("get", "/api/v1/jobs", { query: { ...filters, limit: PAGE }, signal });
  const [page, refresh] = useAnswer("Jobs", load, [state, adapter]);
  useInterval(POLL_MS, refresh);
  remember("/jobs", { state, adapter });
  const jobs = page?.items ?? [];
  const waiting = jobs.filter((job) => !ENDED.has(job.state));
  const cancelAll = async () => {
    const which = [state && `in the state ${state}`, adapter && `of ${adapter}`].filter(Boolean).join(" ");
    const text = `All unfinished jobs ${which || "that you may see"} are stopped. What they have registered stays.`;
    const done = await confirm({ title: "Cancel jobs", verb: "Cancel them", text, danger: true, action: () => cancelMany(filters) });
    if (done) await refresh();
  };
  return (
    <ManagePage title="Jobs" actions={may("publish") && waiting.length > 0 && <Act label="Cancel all …" danger action={cancelAll} />}>
      <form class="filters" role="search" aria-label="Jobs" onSubmit={(event) => event.preventDefault()}>
        <Field label="State">
          <select value={state} onChange={(event) => setState(event.currentTarget.value)}>
            <option value="">any</option>
            {STATES.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </Field>
        <Field label="Adapter">
          <input value={adapter} spellcheck={false} onChange={(event) => setAdapter(event.currentTarget.value.trim())} />
        </Field>
      </form>
      {page && !jobs.length && (
        <p class="faint">
          No jobs. {may("publish") && <a href="#/publish">Publish an adapter</a>}
        </p>
      )}
      {jobs.length > 0 && (
        <Table label="Jobs, newest first" columns={COLUMNS}>
          {jobs.map((job) => (
            <Row key={job.id} columns={COLUMNS} cells={cellsOf(job, refresh)} />
          ))}
        </Table>
      )}
      {page?.next_page_token && <p class="faint">These are the newest {PAGE}: filter to see others.</p>}
    </ManagePage>
  );
}

async function cancelMany(filters: { state?: JobState; adapter?: string }): Promise<void> {
  let told = 0;
  for (let more = true; more; ) {
    const answer = await request("post", "/api/v1/jobs/cancel", { query: filters });
    told += answer.cancelled;
    more = answer.more;
  }
  showResult(count(told, "job is", "jobs are") + " told to stop");
}

function cellsOf(job: Job, refresh: () => Promise<void>) {
  const cancel = async () => {
    await request("post", "/api/v1/jobs/{number}/cancel", { path: { number: job.id } });
    await refresh();
  };
  return [
    job.id,
    <a class="ref" href={adapterLink(job.adapter)}>
      {job.adapter}
    </a>,
    <State of={job.cancel_requested && !ENDED.has(job.state) ? "cancelling" : job.state} />,
    progress(job),
    job.version ?? (job.code && (
      <>
        {job.detail} <Code of={job.code} />
      </>
    )),
    <Time at={job.created_at} />,
    job.created_by,
    may("publish") && owns(job.adapter) && !ENDED.has(job.state) && !job.cancel_requested && <Act label="Cancel" name={`Cancel job ${job.id}`} action={cancel} />,
  ];
}

function progress(job: Job) {
  if (ENDED.has(job.state)) return null;
  const known = job.bytes_total !== null && job.bytes_done > 0;
  return (
    <>
      {job.step ?? "waiting"}
      {known && ` ${bytes(job.bytes_done)} of ${bytes(job.bytes_total!)}`}
      {job.attempts > 1 && `, attempt ${job.attempts}`}
    </>
  );
}
