// Tabs, and drawing anew when the window or its colours change.

const TABS = { matrices: drawMatrices, equivalent: drawEquivalent, charts: drawCharts };

function showTab(chosen) {
  for (const name of Object.keys(TABS)) {
    byId(name).hidden = name !== chosen;
    byId(`tab-${name}`).setAttribute("aria-selected", name === chosen);
    byId(`tab-${name}`).tabIndex = name === chosen ? 0 : -1;
  }
  TABS[chosen]();
}

const currentTab = () => Object.keys(TABS).find((name) => !byId(name).hidden);

for (const [k, name] of Object.keys(TABS).entries()) {
  const tab = byId(`tab-${name}`);
  tab.addEventListener("click", () => showTab(name));
  tab.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    const next = Object.keys(TABS)[(k + move + 3) % 3];
    showTab(next);
    byId(`tab-${next}`).focus();
  });
}

startMatrices();
startEquivalent();
startCharts();
showTab("matrices");
let width = innerWidth;
addEventListener("resize", () => { // on a phone, scrolling changes the height alone
  if (innerWidth !== width) TABS[currentTab()]();
  width = innerWidth;
});
dark.addEventListener("change", () => TABS[currentTab()]());
