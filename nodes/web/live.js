// The button on RTR Live, and the graph queued when a recording has ended.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const UNOPENED = "queue once to open the page";
const OPENED = "open the live page";

/** The node that opened a stage, if it is on the graph that is shown. */
function nodeOf(stage) {
  return app.graph._nodes.find((node) => node.rtrLive && stageOf(node.rtrLive.link) === stage);
}

function stageOf(link) {
  return new URL(link, location.origin).searchParams.get("stage");
}

app.registerExtension({
  name: "rtr.live",

  async beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "RTRLive") return;

    const created = nodeType.prototype.onNodeCreated;
    nodeType.prototype.onNodeCreated = function (...given) {
      const result = created?.apply(this, given);
      this.rtrButton = this.addWidget("button", UNOPENED, null, () => {
        if (this.rtrLive) window.open(api.fileURL(this.rtrLive.link), "_blank");
        else app.queuePrompt(0);
      });
      this.rtrButton.serialize = false;
      return result;
    };

    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      executed?.call(this, output);
      this.rtrLive = output?.rtr_live?.[0];
      if (this.rtrButton && this.rtrLive) {
        this.rtrButton.label = this.rtrButton.name = OPENED;
        this.setDirtyCanvas(true);
      }
    };
  },

  setup() {
    api.addEventListener("rtr.live.recorded", ({ detail }) => {
      if (nodeOf(detail.stage)?.rtrLive.queue) app.queuePrompt(0);
    });
  },
});
