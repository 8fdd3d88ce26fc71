// Candidates in a grid: what is focused and what is picked. A decision is sent to the
// server with the rows that were shown; the states shown are only ever the server's.
const STATES = [
  { name: "unseen", sign: "" },
  { name: "kept", sign: "✓" },
  { name: "rejected", sign: "✕" },
];
const MOVES = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

export default {
  props: {
    items: Array, // {row, image, path, class, probability, rank, state, fault, part}
    maps: Boolean, // whether there are class activation maps
    version: String, // of the pictures' addresses
    empty: String, // shown when there are no items
    subject: Object, // how its items are spoken of: see subject.py
    grouped: Boolean, // whether the items are of a group, which has keys of its own
  },
  data: () => ({ focus: 0, anchor: 0, large: false, mapped: {}, waiting: {} }),
  computed: {
    current() {
      return this.items[this.focus];
    },
    first() {
      return Math.min(this.anchor, this.focus);
    },
    last() {
      return Math.max(this.anchor, this.focus);
    },
  },
  watch: {
    // Another page, not another state.
    items(now, before) {
      if (now.length === before.length && now.every((x, i) => x.row === before[i].row))
        return;
      this.focus = this.anchor = 0;
      this.mapped = {};
      this.waiting = {};
      window.scrollTo({ top: 0 });
      this.show();
    },
  },
  mounted() {
    document.addEventListener("keydown", this.key);
    this.show();
  },
  unmounted() {
    document.removeEventListener("keydown", this.key);
  },
  methods: {
    state: (item) => STATES[item.state].name,
    sign: (item) => STATES[item.state].sign,
    probability: (item) => (Math.floor(item.probability * 1e4) / 1e4).toFixed(4),
    head(item) {
      const both = [this.probability(item), item.class];
      return this.subject.class_first ? both.reverse() : both;
    },
    source(item, size) {
      const kind = this.mapped[item.row] ? "map" : size;
      return `/picture/${kind}/${item.row}?v=${this.version}`;
    },
    label(item) {
      const fault = item.fault ? `, no image: ${item.fault}` : "";
      return `${item.class}, ${this.subject.score} ${this.probability(item)}, ${this.state(item)}${fault}`;
    },
    isPicked(i) {
      return this.picks() && i >= this.first && i <= this.last;
    },
    picks() {
      return this.first < this.last;
    },
    show(always = false) {
      this.$nextTick(() => {
        // Do not take the focus from a field that is being filled in.
        const active = document.activeElement;
        const inside = !active || active === document.body || this.$el.contains(active);
        if (!always && !inside) return;
        if (!inside) active.blur();
        const card = this.cards()[this.focus];
        if (card) card.focus({ preventScroll: false });
      });
    },
    move(to, extend) {
      this.focus = Math.max(0, Math.min(this.items.length - 1, to));
      if (!extend) this.anchor = this.focus;
      this.show();
    },
    // Called by the server, after an undo elsewhere.
    go(row) {
      const i = this.items.findIndex((item) => item.row === row);
      if (i >= 0) this.move(i, false);
    },
    // In the order of the page, which that of $refs need not be.
    cards() {
      return [...this.$el.querySelectorAll(".review-grid > .card")];
    },
    columns() {
      const cards = this.cards();
      const top = cards.length ? cards[0].offsetTop : 0;
      const next = cards.findIndex((card) => card.offsetTop > top);
      return next < 0 ? Math.max(1, cards.length) : next;
    },
    decide(state) {
      const rows = this.items.slice(this.first, this.last + 1).map((item) => item.row);
      if (rows.length) this.$emit("decide", { rows, state });
      return rows.length;
    },
    press(i, state, event) {
      this.move(i, event.shiftKey);
      this.decide(state);
      // The next range starts here.
      this.anchor = this.focus;
    },
    decideAndGoOn(state) {
      const count = this.decide(state);
      this.move(this.focus + (count === 1 ? 1 : 0), false);
    },
    rejectImages() {
      const rows = this.items.slice(this.first, this.last + 1).map((item) => item.row);
      if (rows.length) this.$emit("reject_images", { rows });
      this.move(this.focus + (rows.length === 1 ? 1 : 0), false);
    },
    // Of what this page shows, not of what the server is about to show.
    keepRest() {
      const rest = this.items.filter((item) => item.state === 0 && !item.fault);
      const rows = rest.map((item) => item.row);
      if (rows.length) this.$emit("decide", { rows, state: "kept" });
    },
    toggleMap() {
      if (!this.maps || !this.current || this.current.fault) return;
      for (const item of this.items.slice(this.first, this.last + 1)) {
        this.mapped[item.row] = !this.mapped[item.row];
        this.waiting[item.row] = true;
      }
    },
    failed(item) {
      this.waiting[item.row] = false;
      const map = this.mapped[item.row];
      this.mapped[item.row] = false;
      this.$emit("fault", { row: item.row, map: Boolean(map) });
    },
    key(event) {
      const busy = event.target.closest("input, textarea, [role=combobox], .q-menu");
      if (busy || document.body.classList.contains("q-body--dialog")) return;
      if (event.altKey || event.metaKey) return;
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      if (event.ctrlKey && key !== "z") return;
      const other = event.target.closest("button, a, [role=slider]");
      const outside = other && !this.$el.contains(other);
      if (outside && (key in MOVES || key.startsWith("Arrow"))) return;
      if (outside && (key === "Enter" || key === " ")) return;
      const step = { ArrowUp: -this.columns(), ArrowDown: this.columns() }[key];
      if (key in MOVES || step) {
        this.move(this.focus + (step || MOVES[key]), event.shiftKey);
      } else if (key === "Escape") {
        this.large = false;
        this.move(this.focus, false);
      } else if (event.repeat) {
        // A key that is held down decides once.
        return;
      } else if (this.grouped && event.shiftKey && "kr".includes(key) && !this.picks()) {
        // What is shown tells the server which group is meant.
        const rows = this.items.map((item) => item.row);
        this.$emit("group", { state: key === "k" ? "kept" : "rejected", rows });
      } else if (this.grouped && key === "o") {
        this.$emit("open");
      } else if (key === "k") this.decideAndGoOn("kept");
      else if (key === "r") this.decideAndGoOn("rejected");
      else if (key === "x" && this.subject.images) this.rejectImages();
      else if (key === "Delete") this.decideAndGoOn("unseen");
      else if (key === "u" || (key === "z" && event.ctrlKey)) this.$emit("undo");
      else if (key === "a") this.keepRest();
      else if (key === "n" || key === "PageDown") this.$emit("turn", 1);
      else if (key === "p" || key === "PageUp") this.$emit("turn", -1);
      else if (key === "c") this.toggleMap();
      else if (key === "Enter" || key === " ") this.large = !this.large && !!this.current;
      else if (key === "?") this.$emit("help");
      else return;
      event.preventDefault();
    },
  },
  template: `
  <div>
    <p v-if="!items.length" class="review-empty">{{ empty }}</p>
    <ul v-else class="review-grid">
      <template v-for="(item, i) in items" :key="item.row">
      <li v-if="item.part" class="review-part">{{ item.part }}</li>
      <li :class="['card', state(item), { picked: isPicked(i), focused: i === focus }]"
          :tabindex="i === focus ? 0 : -1" :data-row="item.row"
          :aria-label="label(item)" @click="move(i, $event.shiftKey)"
          @mousedown="$event.shiftKey && $event.preventDefault()"
          @dblclick="large = true">
        <div class="frame">
          <div v-if="item.fault" class="fault">
            <span aria-hidden="true">⚠</span>{{ item.fault }}
          </div>
          <img v-else :src="source(item, 'small')" alt="" draggable="false"
               @load="waiting[item.row] = false" @error="failed(item)">
          <span v-if="waiting[item.row]" class="note">looking…</span>
          <span v-else-if="mapped[item.row]" class="note">{{ subject.map }} {{ item.class }}</span>
          <span v-if="sign(item)" class="sign" aria-hidden="true">{{ sign(item) }}</span>
        </div>
        <div class="line" :title="item.path">
          <b>{{ head(item)[0] }}</b> {{ head(item)[1] }}
          <span>{{ item.image }}</span>
        </div>
        <div class="buttons">
          <button type="button" class="keep" tabindex="-1"
                  :aria-pressed="item.state === 1"
                  @click.stop="press(i, 'kept', $event)">✓ Keep</button>
          <button type="button" class="reject" tabindex="-1"
                  :aria-pressed="item.state === 2"
                  @click.stop="press(i, 'rejected', $event)">✕ Reject</button>
        </div>
      </li>
      </template>
    </ul>
    <div class="review-live" aria-live="polite">{{ current ? label(current) : "" }}</div>
    <div v-if="large && current" class="review-large" role="dialog" aria-modal="true"
         :aria-label="label(current)" @click="large = false">
      <div :class="['card', state(current)]" @click.stop>
        <div class="frame">
          <div v-if="current.fault" class="fault">
            <span aria-hidden="true">⚠</span>{{ current.fault }}
          </div>
          <img v-else :src="source(current, 'large')" alt="">
          <span v-if="waiting[current.row]" class="note">looking…</span>
          <span v-else-if="mapped[current.row]" class="note">
            {{ subject.map }} {{ current.class }}{{ subject.map_text }}
          </span>
          <span v-if="sign(current)" class="sign" aria-hidden="true">
            {{ sign(current) }}
          </span>
        </div>
        <div class="line">
          <b>{{ head(current)[0] }}</b> {{ head(current)[1] }}
          <span class="path">{{ current.path }}</span>
        </div>
        <div class="buttons">
          <button type="button" class="keep" :aria-pressed="current.state === 1"
                  @click="decideAndGoOn('kept')">✓ Keep</button>
          <button type="button" class="reject" :aria-pressed="current.state === 2"
                  @click="decideAndGoOn('rejected')">✕ Reject</button>
          <button v-if="subject.images" type="button" @click="rejectImages">✕ Reject image</button>
          <button v-if="maps" type="button" @click="toggleMap">{{ subject.map_button }}</button>
          <button type="button" @click="large = false">Close</button>
        </div>
      </div>
    </div>
  </div>`,
};
