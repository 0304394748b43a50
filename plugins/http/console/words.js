// Everything that the page says, in each of its languages.

export const WORDS = {
  en: {
    skip: "Skip to the chat", key: "Key", use: "Use", theme: "Light / dark", slots: "Slots", chat: "Chat", slot: "Slot",
    new_chat: "New chat", message: "Message", send: "Send", stop: "Stop", sessions: "Sessions", events: "Events",
    charts: "The last five minutes", latency: "answers begin after",
    models: "Models", plugins: "Plugins", swap: "Swap", model: "Model", strategy: "How", you: "You", remove: "Remove",
    open: "Open", none: "none", empty: "empty", needs_key: "A key of role admin is needed.", lost: "The kernel does not answer",
    moved: "moved from {from} to {to}", failed: "failed", failed_why: "failed: {why}", streams: "streams", tokens: "pieces/s", memory: "kernel memory",
    uptime: "up", requests: "requests", first: "first piece after {ms} ms", turns: "{n} turns", stopped: "stopped",
    graceful: "graceful", immediate: "immediate", session_aware: "session by session", background: "when idle",
    ready: "ready", loading: "loading", degraded: "degraded", unavailable: "unavailable", available: "available",
    refused: "refused", requested: "requested", validated: "validated", preparing: "preparing", prepared: "prepared",
    switched: "switched", draining: "draining", retired: "retired", rolled_back: "rolled back", other: "中文",
    graceful_means: "Running answers end where they are; new requests go to the new model.",
    immediate_means: "Running answers move in mid-sentence and go on at the new model.",
    session_aware_means: "Each conversation moves between its own turns.",
    background_means: "Prepares with low priority and switches once the slot is idle.",
    back: "Back to {model}", cancel: "Give up", waiting: "{n} waiting",
    elsewhere: "{n} answered elsewhere", sequential: "one after the other", streams_moved: "{n} streams moved",
    level_kv: "with their state", level_tokens: "by tokens", level_text: "as text", level_drain: "stayed",
    longest_pause: "longest pause {pause}", pause: "pause {pause}", one_request: "a request", positions: "{n} positions",
    to: "to", back_to: "back to", trigger_swaps: "trigger {trigger} swaps {slot} {way} {model}",
    trigger_would: "trigger {trigger} would swap {slot} {way} {model}",
    trigger_failed: "trigger {trigger} could not swap {slot} {way} {model}", trigger_bound: " (bound {bound})",
    swap_advanced: "swap", trigger_fired: "trigger", instance_changed: "process", model_changed: "model",
    driver_failed: "driver failed", driver_restarting: "driver restarts", discovered: "discovered", verified: "verified",
    starting: "starting", quarantined: "quarantined", copying: "copying", checking: "checking", removed: "removed",
  },
  zh: {
    skip: "跳到对话", key: "密钥", use: "使用", theme: "浅色 / 深色", slots: "插槽", chat: "对话", slot: "插槽",
    new_chat: "新对话", message: "消息", send: "发送", stop: "停止", sessions: "会话", events: "事件",
    charts: "最近五分钟", latency: "开始回答用时",
    models: "模型", plugins: "插件", swap: "更换", model: "模型", strategy: "方式", you: "你", remove: "删除",
    open: "打开", none: "无", empty: "空", needs_key: "需要管理员密钥。", lost: "内核没有响应",
    moved: "已从 {from} 迁移到 {to}", failed: "失败", failed_why: "失败：{why}", streams: "流", tokens: "片/秒", memory: "内核内存",
    uptime: "已运行", requests: "请求", first: "{ms} 毫秒后开始回答", turns: "{n} 轮", stopped: "已停止",
    graceful: "平滑", immediate: "立即", session_aware: "按会话", background: "空闲时",
    ready: "就绪", loading: "加载中", degraded: "降级", unavailable: "不可用", available: "可用",
    refused: "被拒绝", requested: "已请求", validated: "已验证", preparing: "准备中", prepared: "已准备",
    switched: "已切换", draining: "排空中", retired: "已退役", rolled_back: "已回滚", other: "English",
    graceful_means: "进行中的回答在原模型上说完，新请求交给新模型。",
    immediate_means: "进行中的回答中途转移，在新模型上继续。",
    session_aware_means: "每个会话在自己的两轮之间转移。",
    background_means: "以低优先级准备，等插槽空闲后再切换。",
    back: "换回 {model}", cancel: "放弃", waiting: "{n} 个请求在等待",
    elsewhere: "{n} 个会话由别处回答", sequential: "先退后进", streams_moved: "{n} 个流已迁移",
    level_kv: "带状态", level_tokens: "按词元", level_text: "按文本", level_drain: "留在原处",
    longest_pause: "最长停顿 {pause}", pause: "停顿 {pause}", one_request: "一个请求", positions: "{n} 个位置",
    to: "更换为", back_to: "换回", trigger_swaps: "触发器 {trigger} 将 {slot} {way} {model}",
    trigger_would: "触发器 {trigger} 本会将 {slot} {way} {model}",
    trigger_failed: "触发器 {trigger} 未能将 {slot} {way} {model}", trigger_bound: "（界限 {bound}）",
    swap_advanced: "更换", trigger_fired: "触发器", instance_changed: "进程", model_changed: "模型",
    driver_failed: "驱动失败", driver_restarting: "驱动重启", discovered: "已发现", verified: "已核实",
    starting: "启动中", quarantined: "已隔离", copying: "复制中", checking: "检查中", removed: "已移除",
  },
};

// Return what says words in `language`; what it has no word for is said as it is.
export function speaker(language) {
  const words = WORDS[language] ?? WORDS.en;
  return (name, values = {}) =>
    (words[name] ?? name).replace(/\{(\w+)\}/g, (whole, key) => (key in values ? String(values[key]) : whole));
}
