// Decisions around a time: who was evicted for whom, what was loaded, who waited.

import type { Schema } from "../lib/api.ts";
import { adapterLink } from "../lib/address.ts";
import { utc } from "../lib/time.tsx";
import { clock } from "../lib/format.ts";
import { wordOf } from "../cache/decisions.tsx";

type Page = Schema["PastDecisionList"];
type Decision = Schema["DecisionRead"];

interface Props {
  label: string;
  page: Page;
  at: number;
  chosen: string | null;
  choose: (adapter: string | null) => void;
  go: (at: number) => void;
}

export function PastDecisions({ label, page, at, chosen, choose, go }: Props) {
  const items = page.items.filter((each) => !chosen || each.adapter === null || each.adapter === chosen || isFor(each, chosen));
  const before = items.filter((each) => Date.parse(each.at) <= at);
  const after = items.filter((each) => Date.parse(each.at) > at);
  return (
    <section class="tail" aria-label={label}>
      <header class="row">
        <h2>Decisions around it</h2>
        {chosen && (
          <>
            <span class="tag">{chosen}</span>
            <button type="button" class="quiet" onClick={() => choose(null)}>
              Show all
            </button>
            <a href={adapterLink(chosen)}>The adapter's page</a>
          </>
        )}
      </header>
      <ol class="decisions" aria-label="Decisions, oldest first">
        {before.map((each) => (
          <Line key={each.id} decision={each} go={go} />
        ))}
        <li class="history-mark">— {clock(at)} —</li>
        {after.map((each) => (
          <Line key={each.id} decision={each} go={go} />
        ))}
      </ol>
      {!items.length && <p class="faint">No decision in the minute before or after it: hits that did not wait are only counted.</p>}
      {page.more.map((each) => (
        <p key={each.at} class="faint">
          {clock(each.at)}: {each.count ?? "some"} more decisions in this second, recorded by what they changed.
        </p>
      ))}
      {page.next !== null && <p class="faint">There are more: move closer in time.</p>}
    </section>
  );
}

function isFor({ for_reference: reference }: Decision, adapter: string): boolean {
  return (reference ?? "").split(":")[0] === adapter;
}

function Line({ decision, go }: { decision: Decision; go: (at: number) => void }) {
  const name = decision.reference ?? decision.adapter;
  return (
    <li class="decision" data-kind={decision.outcome ?? decision.kind}>
      <button type="button" class="link-like" title={utc(decision.at)} onClick={() => go(Date.parse(decision.at))}>
        <time dateTime={decision.at}>{clock(decision.at)}</time>
      </button>
      <span class="word">{wordOf(decision)}</span>
      <span class="sentence">
        {name && <span class="ref">{name}</span>} {decision.sentence}
      </span>
    </li>
  );
}
