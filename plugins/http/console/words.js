// Everything that the page says, in each of its languages.

export const WORDS = {
  en: {
    skip: "Skip to the chat", key: "Key", use: "Use", theme: "Light / dark", slots: "Slots", chat: "Chat", slot: "Slot",
    new_chat: "New chat", message: "Message", send: "Send", stop: "Stop", sessions: "Sessions", events: "Events",
    charts: "The last five minutes", latency: "answers begin after",
    models: "Models", plugins: "Plugins", swap: "Swap", model: "Model", strategy: "How", you: "You", remove: "Remove",
    open: "Open", none: "none", empty: "empty", needs_key: "A key of role admin is needed.", lost: "The kernel does not answer",
    moved: "moved from {from} to {to}", failed: "failed: {why}", streams: "streams", tokens: "pieces/s", memory: "kernel memory",
    uptime: "up", requests: "requests", first: "first piece after {ms} ms", turns: "{n} turns", stopped: "stopped",
    graceful: "graceful", immediate: "immediate", session_aware: "session by session", background: "when idle",
    ready: "ready", loading: "loading", degraded: "degraded", unavailable: "unavailable", available: "available",
    refused: "refused", requested: "requested", validated: "validated", preparing: "preparing", prepared: "prepared",
    switched: "switched", draining: "draining", retired: "retired", rolled_back: "rolled back", other: "中文",
  },
  zh: {
    skip: "跳到对话", key: "密钥", use: "使用", theme: "浅色 / 深色", slots: "插槽", chat: "对话", slot: "插槽",
    new_chat: "新对话", message: "消息", send: "发送", stop: "停止", sessions: "会话", events: "事件",
    charts: "最近五分钟", latency: "开始回答用时",
    models: "模型", plugins: "插件", swap: "更换", model: "模型", strategy: "方式", you: "你", remove: "删除",
    open: "打开", none: "无", empty: "空", needs_key: "需要管理员密钥。", lost: "内核没有响应",
    moved: "已从 {from} 迁移到 {to}", failed: "失败：{why}", streams: "流", tokens: "片/秒", memory: "内核内存",
    uptime: "已运行", requests: "请求", first: "{ms} 毫秒后开始回答", turns: "{n} 轮", stopped: "已停止",
    graceful: "平滑", immediate: "立即", session_aware: "按会话", background: "空闲时",
    ready: "就绪", loading: "加载中", degraded: "降级", unavailable: "不可用", available: "可用",
    refused: "被拒绝", requested: "已请求", validated: "已验证", preparing: "准备中", prepared: "已准备",
    switched: "已切换", draining: "排空中", retired: "已退役", rolled_back: "已回滚", other: "English",
  },
};

// Return what says words in `language`; what it has no word for is said as it is.
export function speaker(language) {
  const words = WORDS[language] ?? WORDS.en;
  return (name, values = {}) =>
    (words[name] ?? name).replace(/\{(\w+)\}/g, (whole, key) => (key in values ? String(values[key]) : whole));
}
